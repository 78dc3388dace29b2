"""List queries: parsing, planning, rendering to SQL, and keyset pagination."""
