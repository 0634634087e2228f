"""What the end-to-end tests share: processes, ports, backends that tell what they saw, clients."""
