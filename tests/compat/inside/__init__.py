"""Scripts that run inside an environment with pypx; nothing here imports the project."""
