"""The stage serve: a collection over DICOMweb, to be searched and read. It follows nothing, and writes an index."""
