"""The tests: a package, since torch-fidelity installs one of the same name."""
