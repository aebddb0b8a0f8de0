"""Reading DICOM headers. `reader` is the one entrance."""
