import os
import sys

assert sys.argv[1] == "segment", sys.argv
os.execv(os.environ["SEGMENT"], [os.environ["SEGMENT"], *sys.argv[2:]])
