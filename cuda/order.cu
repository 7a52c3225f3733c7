#include "order.cuh"

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>

namespace splat {
namespace {

template <class Value>
size_t sort_bytes(int64_t n) {
    size_t bytes = 0;
    cub::DeviceRadixSort::SortPairs(nullptr, bytes, (const uint32_t*)nullptr, (uint32_t*)nullptr, (const Value*)nullptr,
                                    (Value*)nullptr, (int)n, 0, 32);
    return bytes;
}

template <class Value>
int sort_values(int64_t n, int bits, const uint32_t* keys, uint32_t* other_keys, const Value* values,
                Value* other_values, void* scratch, void* stream) {
    if (n == 0) return 0;
    size_t bytes = sort_bytes<Value>(n);
    return checked(cub::DeviceRadixSort::SortPairs(scratch, bytes, keys, other_keys, values, other_values, (int)n, 0,
                                                   bits, (cudaStream_t)stream),
                   "sorting");
}

}  // namespace

int64_t scan_scratch(int64_t n) {
    size_t bytes = 0;
    cub::DeviceScan::ExclusiveSum(nullptr, bytes, (const int32_t*)nullptr, (int32_t*)nullptr, (int)n);
    return (int64_t)bytes;
}

int scan(const int32_t* in, int32_t* out, int64_t n, void* scratch, void* stream) {
    size_t bytes = (size_t)scan_scratch(n);
    return checked(cub::DeviceScan::ExclusiveSum(scratch, bytes, in, out, (int)n, (cudaStream_t)stream), "summing");
}

int64_t sort_scratch(int64_t n, bool pairs) { return (int64_t)(pairs ? sort_bytes<int2>(n) : sort_bytes<int32_t>(n)); }

int sort(int64_t n, int bits, const uint32_t* keys, uint32_t* other_keys, const int32_t* values, int32_t* other_values,
         void* scratch, void* stream) {
    return sort_values(n, bits, keys, other_keys, values, other_values, scratch, stream);
}

int sort(int64_t n, int bits, const uint32_t* keys, uint32_t* other_keys, const int2* values, int2* other_values,
         void* scratch, void* stream) {
    return sort_values(n, bits, keys, other_keys, values, other_values, scratch, stream);
}

}  // namespace splat
