"""The ground: errors, files, devices, processes and signals; imports nothing of ours."""
