"""The table of compatible components on CIFAR-10: `make bench-compat DATA=FOLDER`."""
