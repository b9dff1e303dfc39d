"""The table of partial network cloning on digits, CIFAR-10 and MNIST: `make bench-cloning DATA=FOLDER`."""
