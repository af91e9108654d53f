def read_lines(path):
