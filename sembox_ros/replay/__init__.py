"""Recordings: bags, videos and image folders in; bags, videos and pictures out."""
