"""What the images are made of and how they are built; nothing here runs in a pod.

`catalogue` says what each image holds, `lock` writes the locks, `build` runs the builds, `rootfs`
and `sbom` run inside them.
"""
