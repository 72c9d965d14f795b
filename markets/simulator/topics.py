"""The words of the simulated venue: what its events are about, and what trading them costs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Category:
    """A subject with the taker fee the venue charges on it. `rate` in 1e-4; 0 means fee free."""

    tags: tuple[str, ...]
    rate: int
    fee_type: str | None = None
    rebate: float = 0.25


CRYPTO = Category(("Crypto", "Crypto Prices"), 700, "crypto_fees_v2", 0.2)
SPORTS = Category(("Sports", "Soccer"), 300, "sports_fees_v2")
SPORTS_NEW = Category(("Sports", "Games"), 500, "sports_fees_v3", 0.15)
ECONOMICS = Category(("Economy", "Fed"), 500, "economics_fees")
WEATHER = Category(("Weather", "Daily Temperature"), 500, "weather_fees")
CULTURE = Category(("Culture", "Movies"), 500, "culture_fees")
POLITICS = Category(("Politics", "Elections"), 400, "politics_fees")
TECH = Category(("Tech", "AI"), 400, "tech_fees")
MENTIONS = Category(("Mentions", "Press Conference"), 400, "mentions_fees")
GEOPOLITICS = Category(("Geopolitics", "World"), 0)

COUNTRIES = (
    "Chile", "Peru", "Colombia", "Portugal", "Slovenia", "Czechia", "Norway", "Iceland", "Kenya",
    "Ghana", "Senegal", "Japan", "Philippines", "New Zealand", "Uruguay", "Paraguay", "Bolivia",
    "Croatia", "Austria", "Denmark", "Estonia", "Latvia", "Lithuania", "Malta", "Cyprus",
)  # fmt: skip
FAMILY_NAMES = (
    "Abreu", "Bakker", "Castellan", "Dorval", "Eklund", "Ferreiro", "Galanis", "Hallberg", "Ibarra",
    "Jankovic", "Kivela", "Lindqvist", "Moravec", "Navarro", "Okafor", "Petrakis", "Quintero",
    "Rossetti", "Sandoval", "Takeda", "Urbina", "Vasquez", "Wexler", "Yamada", "Zelinka",
)  # fmt: skip
GIVEN_NAMES = ("Ana", "Bruno", "Clara", "Diego", "Elena", "Felix", "Greta", "Hugo", "Ines", "Jonas")
CLUBS = (
    "Arsenal", "Liverpool", "Chelsea", "Everton", "Fulham", "Brentford", "Barcelona", "Real Madrid",
    "Sevilla", "Valencia", "Juventus", "Inter", "Milan", "Roma", "Napoli", "Lazio", "Bayern",
    "Dortmund", "Leipzig", "Ajax", "PSV", "Feyenoord", "Porto", "Benfica", "Sporting", "Lyon",
    "Monaco", "Lille", "Celtic", "Rangers", "Galatasaray", "Besiktas",
)  # fmt: skip
NATIONS = (
    "Spain", "England", "France", "Brazil", "Argentina", "Germany", "Portugal", "Netherlands",
    "Italy", "USA", "Uruguay", "Mexico", "Belgium", "Colombia", "Japan", "Norway", "Canada",
    "Morocco", "Senegal", "Ecuador", "Croatia", "Switzerland", "Austria", "Sweden", "Egypt",
    "Australia", "Paraguay", "Ghana", "Algeria", "Panama",
)  # fmt: skip
CENTRAL_BANKS = ("Fed", "ECB", "Bank of England", "Bank of Japan", "Norges Bank", "Riksbank")
DIVISIONS = ("", "Women's ", "Under-21 ", "Under-19 ", "Beach ", "Indoor ")
TOURNAMENTS = ("World Cup", "Nations League", "Continental Cup", "Champions Trophy", "Super League")
CITIES = ("NYC", "London", "Seoul", "Toronto", "Madrid", "Chicago", "Paris", "Miami", "Denver")
LABS = ("Aurora", "Basalt", "Cobalt", "Delphi", "Ember", "Fathom", "Granite", "Harbor")
PLACES = ("Geneva", "Vienna", "Doha", "Istanbul", "Riyadh", "Rome", "Oslo", "Singapore", "Cairo")
WORDS = (
    "Recession", "Inflation", "Tariff", "Unemployment", "Soft landing", "Bitcoin", "Housing",
    "Uncertainty", "Balance sheet", "Stagflation", "Pandemic", "Transitory", "Productivity",
)  # fmt: skip
SPEAKERS = ("the Fed Chair", "the ECB President", "the Prime Minister", "the host")
RATE_MOVES = (
    ("50+ bps decrease", "decrease interest rates by 50+ bps"),
    ("25 bps decrease", "decrease interest rates by 25 bps"),
    ("No change", "leave interest rates unchanged"),
    ("25 bps increase", "increase interest rates by 25 bps"),
    ("50+ bps increase", "increase interest rates by 50+ bps"),
)
QUESTIONS: tuple[tuple[str, Category], ...] = (
    ("Will {country} win its next qualifier?", SPORTS_NEW),
    ("Will {club} finish in the top four?", SPORTS),
    ("Will {country} hold a snap election before {date}?", POLITICS),
    ("Will {country} join the monetary union before {date}?", GEOPOLITICS),
    ("Will {country} and its neighbours sign a border treaty before {date}?", GEOPOLITICS),
    ("Will {lab} release a new flagship model before {date}?", TECH),
    ("Will {lab} be acquired before {date}?", TECH),
    ("Will inflation in {country} fall below 2% before {date}?", ECONOMICS),
    ("Will {country} enter a recession before {date}?", ECONOMICS),
    ("Will it snow in {city} before {date}?", WEATHER),
    ("Will the top film of the year open above $200m before {date}?", CULTURE),
    ("Will Bitcoin dip below its yearly low before {date}?", CRYPTO),
)
UNTIL: tuple[tuple[str, Category], ...] = (
    ("Ceasefire between {country} and {other} by...?", GEOPOLITICS),
    ("Will {country} open its borders by...?", GEOPOLITICS),
    ("{lab} IPO by...?", TECH),
    ("Government of {country} out by...?", POLITICS),
    ("Trade deal between {country} and {other} by...?", GEOPOLITICS),
)
COINS: tuple[tuple[str, str, int], ...] = (
    ("Bitcoin", "btc", 100_000),
    ("Ethereum", "eth", 3_500),
    ("Solana", "sol", 180),
    ("XRP", "xrp", 2),
    ("Dogecoin", "doge", 1),
    ("BNB", "bnb", 800),
)
