"""The example project of Django, run as users run it: `manage.py`, in processes of its own."""
