"""`make bench`: what Trainwright costs, beside a floor that is measured in the same run, held to committed ranges.

`ranges.toml` says what is measured and its bound; a case returns figures by the range's name; `results` compares the two.
"""
