"""Tests of listener.dicom."""
