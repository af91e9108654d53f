def load_project():
    from .project import PROJECT

    return PROJECT
