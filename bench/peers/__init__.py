"""What the emulator is measured beside: plain servers, and the task queues that people would pick instead."""
