// Prefix sums, sorting (both by CUB), and pieces of a workspace.
#pragma once
#include "library.cuh"

namespace splat {

// Cuts a workspace into arrays that start on 256 bytes. With null it only counts.
class Carve {
public:
    explicit Carve(void* memory) : begin((uint8_t*)memory), at(begin) {}
    template <class T>
    T* take(int64_t count) {
        T* piece = (T*)at;
        at += ceil_div<int64_t>(count * (int64_t)sizeof(T), 256) * 256;
        return piece;
    }
    void* rest() const { return at; }
    int64_t bytes() const { return at - begin; }

private:
    uint8_t *begin, *at;
};

// out[i] = the sum of in[0] ... in[i - 1]; `in` may be `out`. What in[n - 1] is does not matter.
int64_t scan_scratch(int64_t n);
int scan(const int32_t* in, int32_t* out, int64_t n, void* scratch, void* stream);

// Stable sort by the lowest `bits` bits of the keys; the result is in other_keys and other_values.
int64_t sort_scratch(int64_t n, bool pairs);
int sort(int64_t n, int bits, const uint32_t* keys, uint32_t* other_keys, const int32_t* values, int32_t* other_values,
         void* scratch, void* stream);
int sort(int64_t n, int bits, const uint32_t* keys, uint32_t* other_keys, const int2* values, int2* other_values,
         void* scratch, void* stream);

// Waits for one number.
template <class T>
int to_host(T* host, const T* device, void* stream) {
    return checked(cudaMemcpyAsync(host, device, sizeof(T), cudaMemcpyDeviceToHost, (cudaStream_t)stream), "waiting") ||
           checked(cudaStreamSynchronize((cudaStream_t)stream), "waiting");
}

}  // namespace splat
