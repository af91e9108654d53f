"""The modes, one file each: training.py, evaluation.py and recognition.py."""
