"""Many devices and hosts: mesh, joining, agreement, preemption, watchdog."""
