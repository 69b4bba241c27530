"""Alibaba Cloud's IoT Platform on loopback: `cloud.AliyunCloud`."""
