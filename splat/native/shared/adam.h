// One number's Adam step (Kingma & Ba 2015, algorithm 1). One source for every processor, like projection.h.
#pragma once
#include <math.h>

namespace splat {

struct AdamConstants {
    float beta1, beta2, eps;
    float correct1, correct2;  // 1 / (1 - beta1^step), 1 / sqrt(1 - beta2^step)

    AdamConstants(double beta1, double beta2, double eps, int64_t step)
        : beta1((float)beta1), beta2((float)beta2), eps((float)eps),
          correct1((float)(1 / (1 - ::pow(beta1, (double)step)))),
          correct2((float)(1 / ::sqrt(1 - ::pow(beta2, (double)step)))) {}
};

// `rate` has correct1 in it. A gradient that is not finite counts as zero: one bad pixel must not end a training.
SPLAT_INLINE void adam_step(const AdamConstants& c, vf rate, vf gradient, vf& p, vf& m, vf& v) {
    const vf g = keep(finite(gradient), gradient);
    m = c.beta1 * m + (1 - c.beta1) * g;
    v = c.beta2 * v + (1 - c.beta2) * g * g;
    p = p - rate * m / (sqrt(v) * c.correct2 + c.eps);
}

}  // namespace splat
