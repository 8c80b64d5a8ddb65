"""Chapter 07: synthetic pairs teach a small network one edit."""
