"""DICOM intake that never loses a file: storescp's files repacked, described and measured."""

__version__ = "0.1.0"
