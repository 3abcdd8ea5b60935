"""Decades, seasons and trend of weekly CO2 readings: `python analyse.py co2.csv` (standard library only)."""

import csv
import json
import sys
from datetime import date


def read(path):
    """Pairs of (year as a fraction, ppmv); weeks without a good reading are left out."""
    points = []
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            if not row["co2"]:
                continue
            text = row["date"]
            day = date(int(text[:4]), int(text[4:6]), int(text[6:8]))
            first = date(day.year, 1, 1)
            length = (date(day.year + 1, 1, 1) - first).days
            points.append((day.year + (day - first).days / length, day.month, float(row["co2"])))
    return points


def solve(matrix, values):
    """Gaussian elimination with partial pivoting."""
    size = len(values)
    rows = [row[:] + [value] for row, value in zip(matrix, values)]
    for column in range(size):
        pivot = max(range(column, size), key=lambda i: abs(rows[i][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for i in range(column + 1, size):
            factor = rows[i][column] / rows[column][column]
            rows[i] = [a - factor * b for a, b in zip(rows[i], rows[column])]
    result = [0.0] * size
    for i in reversed(range(size)):
        known = sum(rows[i][j] * result[j] for j in range(i + 1, size))
        result[i] = (rows[i][size] - known) / rows[i][i]
    return result


def fit(points, origin):
    """Coefficients of a + b t + c t^2, t in years since `origin`, by least squares."""
    sums = [sum((year - origin) ** k for year, _, _ in points) for k in range(5)]
    right = [sum(ppm * (year - origin) ** k for year, _, ppm in points) for k in range(3)]
    return solve([[sums[i + j] for j in range(3)] for i in range(3)], right)


def plot(points, trend, path):
    width, height, left, top, right, bottom = 860, 420, 60, 40, 20, 50
    years = [p[0] for p in points]
    ppm = [p[2] for p in points]
    x0, x1, y0, y1 = min(years), max(years), 310, 380
    assert y0 < min(ppm) and max(ppm) < y1

    def place(year, value):
        x = left + (year - x0) / (x1 - x0) * (width - left - right)
        y = height - bottom - (value - y0) / (y1 - y0) * (height - top - bottom)
        return f"{x:.1f},{y:.1f}"

    def line(pairs, style):
        return f'<polyline fill="none" {style} points="{" ".join(place(x, y) for x, y in pairs)}"/>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="24" font-size="16">Atmospheric CO2 at Mauna Loa, weekly means</text>',
    ]
    for value in range(y0, y1 + 1, 10):
        x, y = place(x0, value).split(",")
        parts.append(f'<line x1="{left}" x2="{width - right}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{float(y) + 4:.1f}" text-anchor="end">{value}</text>')
    for year in range(1960, 2001, 10):
        x, _ = place(year, y0).split(",")
        parts.append(f'<text x="{x}" y="{height - bottom + 20}" text-anchor="middle">{year}</text>')
    parts.append(f'<text x="{left}" y="{height - 10}" fill="#666">parts per million by volume; line: quadratic trend</text>')
    parts.append(line([(p[0], p[2]) for p in points], 'stroke="#4c78a8" stroke-width="1"'))
    parts.append(line([(year, trend(year)) for year in years[::26] + years[-1:]], 'stroke="#e45756" stroke-width="2"'))
    parts.append("</svg>")
    with open(path, "w") as file:
        file.write("\n".join(parts) + "\n")


def main():
    points = read(sys.argv[1] if len(sys.argv) > 1 else "co2.csv")
    origin = 1980
    a, b, c = fit(points, origin)

    def trend(year):
        t = year - origin
        return a + b * t + c * t * t

    decades = {}
    for year, _, ppm in points:
        decades.setdefault(int(year) // 10 * 10, []).append((year, ppm))
    print(f"{'decade':8}{'weeks':>7}{'mean':>9}{'min':>8}{'max':>8}{'growth/yr':>11}")
    table = []
    for decade, values in sorted(decades.items()):
        first, last = values[0][0], values[-1][0]
        growth = (trend(last) - trend(first)) / (last - first)
        ppm = [value for _, value in values]
        row = {
            "decade": f"{decade}s",
            "weeks": len(values),
            "mean": round(sum(ppm) / len(ppm), 2),
            "min": min(ppm),
            "max": max(ppm),
            "growthPerYear": round(growth, 2),
        }
        table.append(row)
        print(f"{row['decade']:8}{row['weeks']:7}{row['mean']:9.2f}{row['min']:8.1f}{row['max']:8.1f}{growth:11.2f}")

    months = {}
    for year, month, ppm in points:
        months.setdefault(month, []).append(ppm - trend(year))
    seasonal = [round(sum(values) / len(values), 2) for _, values in sorted(months.items())]
    amplitude = round(max(seasonal) - min(seasonal), 2)
    print(f"\n{len(points)} weeks; seasonal swing {amplitude} ppmv, highest in month {seasonal.index(max(seasonal)) + 1},")
    print(f"lowest in month {seasonal.index(min(seasonal)) + 1}; the trend grows by {b:.2f} ppmv a year in {origin}.")

    with open("result.json", "w") as file:
        json.dump({"weeks": len(points), "decades": table, "seasonal": seasonal, "amplitude": amplitude}, file, indent=2)
        file.write("\n")
    plot(points, trend, "co2.svg")
    print("Wrote result.json and co2.svg.")


if __name__ == "__main__":
    main()
