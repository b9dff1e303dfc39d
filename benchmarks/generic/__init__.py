"""A generic network that grows by one category after the other, on CIFAR-10: `make bench-generic DATA=FOLDER`."""
