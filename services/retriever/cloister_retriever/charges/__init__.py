"""What ingestions use, until a gateway has written it down."""
