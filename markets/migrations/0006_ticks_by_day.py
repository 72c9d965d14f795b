"""Ticks in chunks of a day, compressed after a day, and their candles: where TimescaleDB is.

A candle is over the middle of bid and ask; `low_ask` and `high_bid` are the best that was
offered. Retention stays with our own task, which works everywhere.
"""

import timescale.db.models.fields
from django.db import migrations

from markets.timescale import OnTimescale

CANDLES = """
CREATE MATERIALIZED VIEW market_candle_{name}
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT market_id,
       time_bucket(INTERVAL '{width}', at) AS start,
       first((bid + ask) / 2, at) FILTER (WHERE bid + ask IS NOT NULL) AS open,
       max((bid + ask) / 2) AS high,
       min((bid + ask) / 2) AS low,
       last((bid + ask) / 2, at) FILTER (WHERE bid + ask IS NOT NULL) AS close,
       last(bid, at) AS bid,
       last(ask, at) AS ask,
       max(bid) AS high_bid,
       min(ask) AS low_ask,
       count(*) AS ticks
FROM markets_tick
GROUP BY market_id, time_bucket(INTERVAL '{width}', at)
WITH NO DATA
"""
REFRESH = """
SELECT add_continuous_aggregate_policy('market_candle_{name}',
    start_offset => INTERVAL '{reach}', end_offset => INTERVAL '{width}',
    schedule_interval => INTERVAL '{pace}')
"""
# Refreshed over less than a day, the shortest that ticks are kept: what a refresh looks at must
# still have its ticks, or it would empty the candles of pruned ones.
MINUTE = {"name": "1m", "width": "1 minute", "reach": "3 hours", "pace": "5 minutes"}
HOUR = {"name": "1h", "width": "1 hour", "reach": "18 hours", "pace": "30 minutes"}


class Migration(migrations.Migration):

    dependencies = [
        ('markets', '0005_near_certain'),
    ]

    operations = [
        migrations.AlterField(
            model_name='tick',
            name='at',
            field=timescale.db.models.fields.TimescaleDateTimeField(interval='1 day'),
        ),
        OnTimescale(
            forwards=[
                "ALTER TABLE markets_tick SET (timescaledb.compress,"
                " timescaledb.compress_segmentby = 'market_id',"
                " timescaledb.compress_orderby = 'at')",
                "SELECT add_compression_policy('markets_tick', INTERVAL '1 day')",
                CANDLES.format(**MINUTE),
                CANDLES.format(**HOUR),
                REFRESH.format(**MINUTE),
                REFRESH.format(**HOUR),
            ],
            backwards=[
                "DROP MATERIALIZED VIEW market_candle_1h",
                "DROP MATERIALIZED VIEW market_candle_1m",
                "SELECT remove_compression_policy('markets_tick')",
            ],
        ),
    ]
