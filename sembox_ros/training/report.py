def write_summary(folder):
    return folder
