// One number's Adam step (Kingma & Ba 2015, algorithm 1). One source for every processor, like projection.h: written in
// `vf`, which is one number in cpu/lane.h and on a GPU.
#pragma once

namespace splat {

// What stays while the number of the step grows.
struct Adam {
    float beta1, beta2, eps;
    Adam(double beta1, double beta2, double eps) : beta1((float)beta1), beta2((float)beta2), eps((float)eps) {}
};

// `correct2` is 1 / sqrt(1 - beta2^step), and `rate` is over 1 - beta1^step. A gradient that is not finite counts as
// zero: one bad pixel must not end a training.
SPLAT_INLINE void adam_step(const Adam& a, float correct2, vf rate, vf gradient, vf& p, vf& m, vf& v) {
    const vf g = keep(finite(gradient), gradient);
    m = a.beta1 * m + (1 - a.beta1) * g;
    v = a.beta2 * v + (1 - a.beta2) * g * g;
    p = p - rate * m / (sqrt(v) * correct2 + a.eps);
}

}  // namespace splat
