"""What runs in the kernel's own process. Imports nothing beyond ipykernel and the standard library."""
