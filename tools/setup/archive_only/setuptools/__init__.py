"""Not setuptools: a stand-in for the one moment when pip fetches a source archive.

pip keeps an archive only after asking its build backend for metadata, and apsw's own answer
begins by downloading SQLite from a web site: 2.5 minutes of retries, then failure, where only a
package index is in reach. With this folder on PYTHONPATH the answer is two lines and nothing of
the archive is run: 1 second.
"""
