// Written by train.py of plugins/iris: what the graph's training data was standardised with.

/** The mean of each measurement: sepal length, sepal width, petal length, petal width. */
export const MEAN = [5.890476, 3.0695238, 3.8028572, 1.2066667];
/** The standard deviation of each measurement. */
export const SCALE = [0.8569629, 0.44553313, 1.8107855, 0.7787984];
