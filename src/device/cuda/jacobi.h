/* jacobi.h - eigenvalues of one small symmetric matrix by Jacobi's rotations, in a form that a block of threads and a plain loop share.
 *
 * Each round of a sweep turns the n/2 disjoint pairs of a round-robin tournament: first the columns of A and V, then the rows of A. n is
 * even (an odd matrix has a last row and column of zeros that no rotation touches). JACOBI_THREAD and JACOBI_THREADS number the threads,
 * JACOBI_BARRIER waits for all of them. */
#ifndef CRANK_DEVICE_CUDA_JACOBI_H
#define CRANK_DEVICE_CUDA_JACOBI_H

#include <math.h>

enum { JACOBI_SWEEPS = 30 };

/* Players p < q of pair `k` in round `round` of a tournament of n. */
JACOBI_INLINE void jacobi_pair(int n, int round, int k, int *p, int *q)
{
    int a = k == 0 ? n - 1 : (round + k) % (n - 1), b = (round + n - 1 - k) % (n - 1);
    *p = a < b ? a : b, *q = a < b ? b : a;
}

/* a [n,n] becomes diagonal, v [n,n] (the identity before) holds the vectors in its columns. cosines, sines [n/2]; `off`: one cell, -1 at the end when an
 * entry is not finite: nothing is turned then. */
JACOBI_INLINE void jacobi_run(double *a, double *v, int n, double *cosines, double *sines, double *off)
{
    for (int sweep = 0; sweep < JACOBI_SWEEPS; sweep++) {
        JACOBI_BARRIER();
        if (JACOBI_THREAD == 0) {
            double outside = 0, inside = 0;
            for (int i = 0; i < n; i++)
                for (int j = 0; j < n; j++) {
                    double square = a[i * n + j] * a[i * n + j];
                    if (i == j) inside += square;
                    else outside += square;
                }
            *off = !isfinite(inside + outside) ? -1 : outside > 1e-30 * (inside + outside);
        }
        JACOBI_BARRIER();
        if (*off <= 0) return;
        for (int round = 0; round < n - 1; round++) {
            for (int k = JACOBI_THREAD; k < n / 2; k += JACOBI_THREADS) {
                int p, q;
                jacobi_pair(n, round, k, &p, &q);
                double apq = a[p * n + q], c = 1, s = 0;
                if (apq != 0) {
                    double theta = (a[q * n + q] - a[p * n + p]) / (2 * apq), t = 1 / (fabs(theta) + sqrt(theta * theta + 1));
                    if (theta < 0) t = -t;
                    c = 1 / sqrt(t * t + 1), s = t * c;
                }
                cosines[k] = c, sines[k] = s;
            }
            JACOBI_BARRIER();
            for (int at = JACOBI_THREAD; at < n / 2 * n; at += JACOBI_THREADS) {
                int k = at / n, i = at % n, p, q;
                jacobi_pair(n, round, k, &p, &q);
                double c = cosines[k], s = sines[k], x = a[i * n + p], y = a[i * n + q];
                a[i * n + p] = c * x - s * y, a[i * n + q] = s * x + c * y;
                x = v[i * n + p], y = v[i * n + q];
                v[i * n + p] = c * x - s * y, v[i * n + q] = s * x + c * y;
            }
            JACOBI_BARRIER();
            for (int at = JACOBI_THREAD; at < n / 2 * n; at += JACOBI_THREADS) {
                int k = at / n, j = at % n, p, q;
                jacobi_pair(n, round, k, &p, &q);
                double c = cosines[k], s = sines[k], x = a[p * n + j], y = a[q * n + j];
                a[p * n + j] = c * x - s * y, a[q * n + j] = s * x + c * y;
            }
            JACOBI_BARRIER();
        }
    }
}

/* The values ascending and the vectors with their largest entry positive; r <= n is the true size, place[] a cell a column. */
JACOBI_INLINE void jacobi_order(const double *a, const double *v, int n, int r, int *place, double *sign)
{
    for (int j = JACOBI_THREAD; j < r; j += JACOBI_THREADS) {
        int    before = 0;
        double most = 0;
        for (int i = 0; i < r; i++) before += a[i * n + i] < a[j * n + j] || (a[i * n + i] == a[j * n + j] && i < j);
        place[j] = before, sign[j] = 1;
        for (int i = 0; i < r; i++)
            if (fabs(v[i * n + j]) > most) most = fabs(v[i * n + j]), sign[j] = v[i * n + j] < 0 ? -1 : 1;
    }
    JACOBI_BARRIER();
}

#endif
