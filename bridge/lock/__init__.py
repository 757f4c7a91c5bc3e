"""`bridge.lock`: what a project pins, so that others and Nix get the very same.

file     the file: sections, reading, changing one section at once
flakes   the section of flakes: which revision a reference stands for
pins     the section of stages: which realizations are chosen
"""
