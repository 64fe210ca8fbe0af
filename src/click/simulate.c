/* simulate.c - users who click (Ai et al. 2018, arXiv:1804.05938; tables of the ULTRA toolbox; trust: Vardasbi et al. 2020). */
#include <math.h>
#include <string.h>

#include "click/click.h"

const crank_option click_simulator_table[] = {
    CRANK_CHOICE(click_simulator, user, "pbm", "pbm|cascade|dcm|ubm|trust", "how the user looks and clicks"),
    CRANK_FLOAT(click_simulator, eta, 1, 0, 100, "severity of the position bias: examination to this power"),
    CRANK_FLOAT(click_simulator, noise, 0.1, 0, 1, "probability that an item of grade 0 is found relevant"),
    CRANK_FLOAT(click_simulator, go_on, 0.6, 0, 1, "dcm: probability of going on after a click"),
    CRANK_INT(click_simulator, top, 4, 1, 30, "highest grade"),
    CRANK_INT(click_simulator, depth, 10, 1, CLICK_MOST_PLACES, "items that are shown"),
    CRANK_INT(click_simulator, seed, 1, 0, 9e15, "of the clicks"),
    CRANK_END
};

enum { TABLE = 10 };
static const double examination[TABLE] = {.68, .61, .48, .34, .28, .20, .11, .10, .08, .06};
/* Row: the place; column: distance to the click before, less 1; the last entry of a row: no click before. */
static const double ubm[TABLE][TABLE] = {
    {1},
    {.98, 1},
    {1, .62, .95},
    {1, .77, .42, .82},
    {1, .92, .55, .31, .69},
    {1, .96, .63, .4, .22, .54},
    {1, .99, .73, .46, .29, .17, .47},
    {1, 1, .89, .52, .35, .24, .14, .43},
    {1, 1, .95, .68, .4, .29, .19, .12, .41},
    {1, 1, 1, .96, .52, .36, .27, .18, .12, .43},
};

double click_examination(double eta, int64_t place) { return pow(examination[place < TABLE ? place : TABLE - 1], eta); }

double click_relevance(const click_simulator *s, double grade) { return s->noise + (1 - s->noise) * (exp2(grade) - 1) / (exp2((double)s->top) - 1); }

/* last: place of the click before, -1: none */
static double ubm_examination(double eta, int64_t place, int64_t last)
{
    int64_t row = place < TABLE ? place : TABLE - 1, distance = last < 0 ? row : place - last - 1;
    return pow(ubm[row][distance < row ? distance : row], eta);
}

static double probability(const click_simulator *s, int64_t place, int64_t last, double relevance)
{
    if (!strcmp(s->user, "ubm")) return ubm_examination(s->eta, place, last) * relevance;
    if (!strcmp(s->user, "pbm")) return click_examination(s->eta, place) * relevance;
    if (strcmp(s->user, "trust")) return relevance; /* cascade, dcm */
    double i = (double)place + 1, right = 1 - (fmin(i, 20) + 1) / 100, wrong = .65 / fmin(i, 10);
    return click_examination(s->eta, place) * (right * relevance + wrong * (1 - relevance));
}

crank_status click_simulate(crank_context *context, const click_simulator *s, uint64_t session, const float *grades, int64_t n, uint8_t *clicks)
{
    crank_stream stream = crank_stream_make((uint64_t)s->seed, CRANK_RANDOM_DATA, 1000);
    bool         cascade = !strcmp(s->user, "cascade"), dcm = !strcmp(s->user, "dcm"), done = false;
    int64_t      last = -1;
    for (int64_t i = 0; i < n; i++) {
        double grade = (double)grades[i];
        if (!(grade >= 0) || grade > (double)s->top || grade != floor(grade))
            return crank_fail(context, CRANK_BAD_DATA, "clicks are simulated from grades 0, 1, .. %lld, not from a label %g", (long long)s->top, grade);
        uint64_t draw = (session * CLICK_MOST_PLACES + (uint64_t)i) * 2;
        clicks[i] = !done && (double)crank_draw_uniform(stream, draw) < probability(s, i, last, click_relevance(s, grade));
        if (!clicks[i]) continue;
        last = i;
        done = cascade || (dcm && (double)crank_draw_uniform(stream, draw + 1) >= s->go_on);
    }
    return CRANK_OK;
}
