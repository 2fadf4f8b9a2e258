"""The parts of the module apart from Slicer's nodes and widgets: only the standard library, numpy and vtk, so that other
modules can copy them."""
