"""The loops of C files, one for each kind of layer.

In these templates ``real`` stands for the type of numbers, ``function`` for the name of the function that
users call (and the beginning of all other names), INPUTS and CLASSES for numbers, SCAN and DIGITS for
formats.

Layers that map every number by itself work in place, the others from ``x`` to ``y``. Matrices have a row
for each unit, so that the innermost loop runs through memory. Comparisons are turned so that NaN stays
NaN.
"""

from __future__ import annotations

#: By the name that calls use, without the function's; what loops on windows need comes before them.
KERNELS = {
    "affine": """\
static void function_affine(int inputs, int units, const real *w, const real *b, const real *x, real *y)
{
    for (int j = 0; j < units; ++j) {
        real sum = b[j];
        for (int i = 0; i < inputs; ++i) sum += w[j * inputs + i] * x[i];
        y[j] = sum;
    }
}
""",
    "gated": """\
static void function_gated(int inputs, int units, const real *g, const real *h, const real *w,
                           const real *b, const real *x, real *y)
{
    for (int j = 0; j < units; ++j) {
        real gate = h[j], sum = b[j];
        for (int i = 0; i < inputs; ++i) {
            gate += g[j * inputs + i] * x[i];
            sum += w[j * inputs + i] * x[i];
        }
        y[j] = gate < 0 ? 0 : sum;
    }
}
""",
    "relu": """\
static void function_relu(int n, real *x)
{
    for (int i = 0; i < n; ++i) x[i] = x[i] < 0 ? 0 : x[i];
}
""",
    "leaky_relu": """\
static void function_leaky_relu(int n, real slope, real *x)
{
    for (int i = 0; i < n; ++i) x[i] = x[i] > 0 ? x[i] : slope * x[i];
}
""",
    "absolute": """\
static void function_absolute(int n, real *x)
{
    for (int i = 0; i < n; ++i) x[i] = x[i] < 0 ? -x[i] : x[i];
}
""",
    "threshold": """\
static void function_threshold(int n, real *x)
{
    for (int i = 0; i < n; ++i) x[i] = x[i] >= 0 ? 1 : 0;
}
""",
    "polynomial": """\
static void function_polynomial(int n, real quadratic, real linear, real constant, real *x)
{
    for (int i = 0; i < n; ++i) x[i] = (quadratic * x[i] + linear) * x[i] + constant;
}
""",
    "product": """\
static void function_product(int n, real *x)
{
    for (int i = 0; i < n; ++i) x[i] *= x[n + i];
}
""",
    "windows": """\
typedef struct {
    int height, width, channels, rows, columns, down, right, top, left, out_rows, out_columns, circular;
} function_windows;

/* The pixel (its channels) that a window sees at some place, or null beyond the border. */
static const real *function_pixel(const function_windows *g, const real *x, int position, int row,
                                  int column)
{
    int r = position / g->out_columns * g->down - g->top + row;
    int c = position % g->out_columns * g->right - g->left + column;
    if (g->circular) {
        r %= g->height;
        c %= g->width;
    }
    if (r < 0 || r >= g->height || c < 0 || c >= g->width) return 0;
    return x + (r * g->width + c) * g->channels;
}
""",
    "filter": """\
static real function_filter(const function_windows *g, const real *w, const real *x, int position)
{
    real sum = 0;
    for (int r = 0; r < g->rows; ++r)
        for (int c = 0; c < g->columns; ++c) {
            const real *pixel = function_pixel(g, x, position, r, c);
            const real *weight = w + (r * g->columns + c) * g->channels;
            if (pixel)
                for (int k = 0; k < g->channels; ++k) sum += weight[k] * pixel[k];
        }
    return sum;
}
""",
    "conv": """\
static void function_conv(const function_windows *g, int filters, const real *w, const real *b,
                          const real *x, real *y)
{
    int patch = g->rows * g->columns * g->channels;
    for (int p = 0; p < g->out_rows * g->out_columns; ++p)
        for (int f = 0; f < filters; ++f)
            y[p * filters + f] = function_filter(g, w + f * patch, x, p) + b[f];
}
""",
    "gated_conv": """\
static void function_gated_conv(const function_windows *g, int filters, const real *gates, const real *h,
                                const real *w, const real *b, const real *x, real *y)
{
    int patch = g->rows * g->columns * g->channels;
    for (int p = 0; p < g->out_rows * g->out_columns; ++p)
        for (int f = 0; f < filters; ++f) {
            real gate = function_filter(g, gates + f * patch, x, p) + h[f];
            y[p * filters + f] = gate < 0 ? 0 : function_filter(g, w + f * patch, x, p) + b[f];
        }
}
""",
    "pool": """\
/* Of every window the sum (0), the mean (1) or the maximum (2); beyond the border there are zeros. */
static void function_pool(const function_windows *g, int kind, const real *x, real *y)
{
    int size = g->rows * g->columns;
    for (int p = 0; p < g->out_rows * g->out_columns; ++p)
        for (int k = 0; k < g->channels; ++k) {
            real taken = 0;
            for (int at = 0; at < size; ++at) {
                const real *pixel = function_pixel(g, x, p, at / g->columns, at % g->columns);
                real value = pixel ? pixel[k] : 0;
                if (kind != 2) taken += value;
                else if (at == 0 || value > taken) taken = value;
            }
            y[p * g->channels + k] = kind == 1 ? taken / (real)size : taken;
        }
}
""",
}

#: What kernels need before them.
BEFORE = {
    "conv": ("windows", "filter"),
    "gated_conv": ("windows", "filter"),
    "pool": ("windows",),
}

#: The number of the class, from the outputs: of one output, of several.
CHOICE = {
    "two": """\
int function_class(const real x[INPUTS])
{
    real y[1];
    function(x, y);
    return y[0] > 0 ? 1 : 0;
}
""",
    "several": """\
int function_class(const real x[INPUTS])
{
    real y[CLASSES];
    int best = 0;
    function(x, y);
    for (int j = 1; j < CLASSES; ++j)
        if (y[j] > y[best]) best = j;
    return best;
}
""",
}

#: The probabilities, from the outputs: the logistic function, the softmax.
PROBABILITIES = {
    "two": """\
void function_proba(const real x[INPUTS], real p[2])
{
    real y[1];
    function(x, y);
    real odds = exp(y[0] < 0 ? y[0] : -y[0]);
    real likely = 1 / (1 + odds), unlikely = odds / (1 + odds);
    p[0] = y[0] < 0 ? likely : unlikely;
    p[1] = y[0] < 0 ? unlikely : likely;
}
""",
    "several": """\
void function_proba(const real x[INPUTS], real p[CLASSES])
{
    real most, sum = 0;
    function(x, p);
    most = p[0];
    for (int j = 1; j < CLASSES; ++j)
        if (p[j] > most) most = p[j];
    for (int j = 0; j < CLASSES; ++j) {
        p[j] = exp(p[j] - most);
        sum += p[j];
    }
    for (int j = 0; j < CLASSES; ++j) p[j] /= sum;
}
""",
}

#: A program around the function.
MAIN = """\
#ifdef FUNCTION_MAIN
#include <stdio.h>

int main(void)
{
    real x[INPUTS];
    for (;;) {
        for (int i = 0; i < INPUTS; ++i)
            if (scanf("%SCAN", &x[i]) != 1) return i == 0 && feof(stdin) ? 0 : 1;
@show
    }
}
#endif
"""
