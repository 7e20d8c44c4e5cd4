"""What is written twice and must not differ: tables and schemas that follow from the settings classes and the values.

``make docs`` writes them. A test fails where what is committed is not what would be written.
"""
