"""Geometry that several slots share: reprojection, triangulation, depth completion, normals, where cameras look, camera
paths, compositing and drawing a view. Imports core and native alone."""
