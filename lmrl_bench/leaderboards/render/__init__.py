"""Pages, files and plots of a leaderboard, all made from one `LeaderboardTable`.

The same table gives the same bytes.
"""
