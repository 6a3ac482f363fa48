#include "bench/support/plot.h"

#include <stdio.h>

#define WIDTH  760
#define HEIGHT 420
#define LEFT   56
#define RIGHT  210 /* the legend's */
#define TOP    36
#define BOTTOM 44
#define STEPS  48

static const char *const colours[PLOT_ARMS] = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e",
                                               "#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22"};

static double x_of(const struct plot *plot, double tokens)
{
    return LEFT + tokens / plot->tokens * (WIDTH - LEFT - RIGHT);
}

static double y_of(double success)
{
    return TOP + (1 - success) * (HEIGHT - TOP - BOTTOM);
}

static void text(FILE *out, double x, double y, const char *anchor, const char *words)
{
    (void)fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    for (const char *c = words; *c; c++) {
        if (*c == '<' || *c == '&')
            (void)fputs(*c == '<' ? "&lt;" : "&amp;", out);
        else
            (void)fputc(*c, out);
    }
    (void)fputs("</text>\n", out);
}

static void axes(FILE *out, const struct plot *plot)
{
    char label[32];
    for (int i = 0; i <= 5; i++) {
        double y = y_of(i / 5.0), x = x_of(plot, plot->tokens * i / 5.0);
        (void)fprintf(out, "<path d=\"M%d %.1fH%d\" stroke=\"#ddd\"/>\n", LEFT, y, WIDTH - RIGHT);
        (void)snprintf(label, sizeof label, "%.1f", i / 5.0);
        text(out, LEFT - 8, y + 4, "end", label);
        (void)snprintf(label, sizeof label, "%.1f", plot->tokens * i / 5.0 / 1e6);
        text(out, x, HEIGHT - BOTTOM + 18, "middle", label);
    }
    text(out, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 8, "middle", "million tokens processed by rollouts");
    text(out, LEFT, TOP - 14, "start", plot->title);
}

/* Mean and deviation of an arm's runs at a place. */
static void look(const struct plot_arm *arm, double tokens, double *ret_mean, double *ret_deviation)
{
    double values[PLOT_RUNS];
    for (size_t i = 0; i < arm->count; i++) values[i] = curve_at(arm->runs[i], tokens);
    curve_spread(values, arm->count, ret_mean, ret_deviation);
}

static double inside(double success)
{
    return success < 0 ? 0 : success > 1 ? 1 : success;
}

static void draw(FILE *out, const struct plot *plot, size_t index)
{
    const struct plot_arm *arm = &plot->arms[index];
    double mean = 0, deviation = 0;
    (void)fprintf(out, "<path fill=\"%s\" fill-opacity=\"0.13\" d=\"M", colours[index]);
    for (int i = 0; i <= STEPS; i++) {
        look(arm, plot->tokens * i / STEPS, &mean, &deviation);
        (void)fprintf(out, "%.1f %.1f ", x_of(plot, plot->tokens * i / STEPS), y_of(inside(mean + deviation)));
    }
    for (int i = STEPS; i >= 0; i--) {
        look(arm, plot->tokens * i / STEPS, &mean, &deviation);
        (void)fprintf(out, "%.1f %.1f ", x_of(plot, plot->tokens * i / STEPS), y_of(inside(mean - deviation)));
    }
    (void)fprintf(out, "Z\"/>\n<path fill=\"none\" stroke=\"%s\" stroke-width=\"1.8\" d=\"M", colours[index]);
    for (int i = 0; i <= STEPS; i++) {
        look(arm, plot->tokens * i / STEPS, &mean, &deviation);
        (void)fprintf(out, "%.1f %.1f ", x_of(plot, plot->tokens * i / STEPS), y_of(mean));
    }
    double y = TOP + 10 + 20.0 * (double)index;
    (void)fprintf(out, "\"/>\n<path d=\"M%d %.1fh18\" stroke=\"%s\" stroke-width=\"3\"/>\n", WIDTH - RIGHT + 12, y,
                  colours[index]);
    text(out, WIDTH - RIGHT + 36, y + 4, "start", arm->label);
}

bool plot_write(const struct plot *plot, const char *path)
{
    FILE *out = fopen(path, "we");
    if (!out) return false;
    (void)fprintf(out,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" "
                  "font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
                  WIDTH, HEIGHT);
    axes(out, plot);
    for (size_t i = 0; i < plot->count; i++) draw(out, plot, i);
    (void)fputs("</svg>\n", out);
    return fclose(out) == 0;
}
