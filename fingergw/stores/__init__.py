"""Where cached answers outlive the process, or are shared by several; one module a kind of store."""
