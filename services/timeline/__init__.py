"""全过程一张图: every project's whole process on one map, kept from what all platforms say, and shown live."""
