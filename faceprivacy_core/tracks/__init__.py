"""Faces of consecutive frames linked into people: cuts, links, people, and steady places."""

from .follow import Followed, follow_faces
from .links import Linker, Tracklet, TrackSettings
from .people import choose_people, join_people

__all__ = ["Followed", "Linker", "TrackSettings", "Tracklet", "choose_people", "follow_faces", "join_people"]
