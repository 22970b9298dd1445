"""Tests of the Ansible roles, their modules and filters."""
