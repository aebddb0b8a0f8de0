"""DICOM over the network: the upper layer (PS3.8) and storage (PS3.4 annex B), as a service class user."""
