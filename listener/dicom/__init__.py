"""Read DICOM headers; start at `reader`."""
