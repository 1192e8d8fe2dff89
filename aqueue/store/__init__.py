"""Where jobs live. `open` picks a store; nothing is imported here, because short commands name types of this room."""
