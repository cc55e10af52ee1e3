"""What Locust runs: the only code here that imports locust and gevent."""
