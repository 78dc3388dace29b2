"""Helpers of the tests: servers, browsers, mirrors, sample images and readers of the code."""
