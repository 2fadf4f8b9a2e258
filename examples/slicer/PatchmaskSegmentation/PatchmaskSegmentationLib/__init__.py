"""The parts of the module apart from Slicer's nodes and widgets: only the standard library, numpy and vtk, so that it
is tested without Slicer (`make test-slicer`)."""
