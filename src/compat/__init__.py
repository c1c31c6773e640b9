"""Programs that were written for another framework run here once their import lines are changed.

A package inside offers the public names of one framework. Each name has the arguments, the defaults and the
results that it has there. It is made of what this library has anyway: nothing here is an engine of its own.
What cannot be made so raises `NotSupported`, which says what to write instead.
"""
